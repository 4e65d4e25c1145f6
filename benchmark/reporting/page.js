// The script of a report's page: curves alone, the decision matrix by weights, tips, tables as CSV, levels on a click.
// Names come from files that anybody may have written: they are only ever set as text.
for (const f of document.querySelectorAll('figure')) {
  let kept = null;
  const show = s => {
    f.classList.toggle('on', s !== null);
    for (const g of f.querySelectorAll('[data-s]')) g.classList.toggle('hot', g.dataset.s === s);
  };
  for (const l of f.querySelectorAll('.leg')) {
    const keep = () => {
      kept = kept === l.dataset.s ? null : l.dataset.s;
      show(kept);
    };
    for (const e of ['mouseenter', 'focus']) l.addEventListener(e, () => show(l.dataset.s));
    for (const e of ['mouseleave', 'blur']) l.addEventListener(e, () => show(kept));
    l.addEventListener('click', keep);
    l.addEventListener('keydown', e => {
      if (e.key === 'Enter' || e.key === ' ') {
        e.preventDefault();
        keep();
      }
    });
  }
}
for (const box of document.querySelectorAll('.decision')) {
  const inputs = [...box.querySelectorAll('input')],
    rows = [...box.querySelectorAll('tbody tr')];
  const update = () => {
    const w = inputs.map(i => +i.value),
      sum = w.reduce((a, b) => a + b, 0);
    inputs.forEach((i, k) => (i.previousElementSibling.textContent = w[k]));
    const totals = rows.map(r => {
      const s = JSON.parse(r.dataset.scores);
      return sum ? s.reduce((a, v, k) => a + v * w[k], 0) / sum : 0;
    });
    rows.forEach((r, k) => {
      const rank = 1 + totals.filter(t => t > totals[k] + 1e-12).length;
      r.cells[1].textContent = totals[k].toFixed(2);
      r.cells[2].textContent = rank;
      r.classList.toggle('best', rank === 1);
      r.dataset.total = totals[k];
    });
  };
  const sort = () => {
    rows
      .slice()
      .sort((a, b) => b.dataset.total - a.dataset.total)
      .forEach(r => r.parentNode.append(r));
  };
  inputs.forEach(i => {
    i.addEventListener('input', update);
    i.addEventListener('change', sort);
  });
}

const make = (name, parent, words) => {
  const e = document.createElement(name);
  if (words !== undefined) e.textContent = words;
  if (parent) parent.append(e);
  return e;
};
// Names on hover; on the keyboard arrows go through the marks of a figure that has the focus.
const tip = make('div', document.body);
tip.className = 'tip';
tip.hidden = true;
tip.setAttribute('role', 'status');
const say = (words, x, y) => {
  if (tip.popover !== undefined) {
    tip.popover = 'manual';
    try {
      tip.hidePopover();
    } catch (e) {}
  }
  tip.textContent = words;
  tip.hidden = !words;
  if (!words) return;
  if (tip.showPopover)
    try {
      tip.showPopover();
    } catch (e) {}
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(8, Math.min(x + 12, innerWidth - box.width - 8)) + 'px';
  tip.style.top = (y + 18 + box.height > innerHeight ? Math.max(8, y - box.height - 12) : y + 18) + 'px';
};
const titles = root => {
  for (const t of root.querySelectorAll('svg title')) {
    t.parentNode.dataset.t = t.textContent;
    t.remove();
  }
};
titles(document);
const heat = svg => {
  const h = JSON.parse(svg.dataset.heat),
    ring = svg.querySelector('.ring');
  const n = h.columns.length,
    m = h.rows.length;
  const words = (i, j) =>
    h.columns[j] + ', ' + h.rows[i] + ': ' + (h.shares[i][j] === null ? 'not played' : h.shares[i][j] + '%');
  const mark = (i, j) => {
    ring.setAttribute('x', h.left + h.cell * j - 0.5);
    ring.setAttribute('y', h.top - 1);
    ring.setAttribute('width', h.cell);
    ring.setAttribute('height', h.lane * m + 2);
  };
  const at = e => {
    const b = svg.getBoundingClientRect(),
      k = svg.viewBox.baseVal.width / b.width;
    const j = Math.floor(((e.clientX - b.left) * k - h.left) / h.cell),
      i = Math.floor(((e.clientY - b.top) * k - h.top) / h.lane);
    return i >= 0 && i < m && j >= 0 && j < n ? [i, j] : null;
  };
  const pick = (i, j) => {
    mark(i, j);
    const b = ring.getBoundingClientRect();
    say(words(i, j), b.right, b.top + (b.height * (i + 0.5)) / m);
  };
  return { n, m, h, mark, at, words, pick };
};
for (const svg of document.querySelectorAll('figure svg')) {
  const marks = [...svg.querySelectorAll('[data-t]')].filter(e => !e.classList.contains('leg'));
  const h = svg.dataset.heat && heat(svg);
  if (!marks.length && !h) continue;
  svg.tabIndex = 0;
  svg.setAttribute('aria-label', svg.getAttribute('aria-label') + ' (arrow keys go through the values)');
  let here = -1,
    i = 0,
    j = -1;
  const clear = () => {
    say('');
    marks.forEach(e => e.classList.remove('here'));
  };
  svg.addEventListener('pointermove', e => {
    const a = h && h.at(e);
    if (a) {
      h.mark(...a);
      [i, j] = a;
      say(h.words(...a), e.clientX, e.clientY);
      return;
    }
    const t = e.target.closest('[data-t]');
    say(t ? t.dataset.t : '', e.clientX, e.clientY);
  });
  svg.addEventListener('pointerleave', clear);
  svg.addEventListener('blur', clear);
  let place = h && svg.closest('figure');
  while (place && !place.classList.contains('open')) place = place.nextElementSibling;
  if (h && place)
    svg.addEventListener('click', e => {
      const a = h.at(e);
      if (a) openLevel(place, h.h.columns[a[1]], e);
    });
  svg.addEventListener('keydown', e => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
    if (e.target !== svg) return;
    if (e.key === 'Escape') {
      clear();
      return;
    }
    if (place && e.key === 'Enter' && j >= 0) {
      e.preventDefault();
      openLevel(place, h.h.columns[j]);
      return;
    }
    if (!step) return;
    e.preventDefault();
    if (h) {
      if (e.key === 'ArrowRight' || e.key === 'ArrowLeft') j = Math.max(0, Math.min(h.n - 1, j + step));
      else i = Math.max(0, Math.min(h.m - 1, i + step));
      j = Math.max(j, 0);
      h.pick(i, j);
      return;
    }
    clear();
    here = (here + step + marks.length) % marks.length;
    const g = marks[here],
      b = g.getBoundingClientRect();
    g.classList.add('here');
    say(g.dataset.t, b.right - 8, b.top + b.height / 2);
  });
}
// Tables and figures that go on at the right say so.
for (const box of document.querySelectorAll('.box')) {
  const inner = box.firstElementChild;
  const look = () => {
    box.classList.toggle('on', inner.scrollWidth - inner.clientWidth - inner.scrollLeft > 3);
    box.classList.toggle('before', inner.scrollLeft > 3);
  };
  inner.addEventListener('scroll', look, { passive: true });
  new ResizeObserver(look).observe(inner);
  look();
}
// What is seen of a table, as CSV. A cell that a spreadsheet would take for a formula gets an apostrophe.
const csv = table =>
  [...table.rows]
    .map(row =>
      [...row.cells]
        .map(c => {
          const small = c.querySelector('small');
          let words = small
            ? c.textContent.slice(0, -small.textContent.length) + ' (' + small.textContent + ')'
            : c.textContent;
          if (/^[=@\t\r]|^[+-](?![\d.])./.test(words)) words = "'" + words;
          return '"' + words.replaceAll('"', '""') + '"';
        })
        .join(','),
    )
    .join('\r\n') + '\r\n';
document.querySelectorAll('.scroll>table').forEach((table, k) => {
  const button = make('button', null, 'CSV');
  button.className = 'csv';
  button.type = 'button';
  button.title = 'Save this table as a CSV file';
  table.closest('.box').nextElementSibling.after(button);
  button.addEventListener('click', () => {
    const link = make('a');
    link.setAttribute('href', URL.createObjectURL(new Blob(['\ufeff' + csv(table)], { type: 'text/csv' })));
    link.download = 'table_' + (k + 1) + '.csv';
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.getAttribute('href')), 1000);
  });
});
// A level with every contender's run, drawn when it is opened.
let shown = null,
  views = null,
  dialog = null,
  current = 0,
  turns = 0;
const NS = 'http:' + '//www.w3.org/2000/svg'; // of SVG; nothing is loaded from there
const draw = (parent, name, attributes, words) => {
  const e = document.createElementNS(NS, name);
  for (const k in attributes) e.setAttribute(k, attributes[k]);
  if (words !== undefined) e.dataset.t = words;
  parent.append(e);
  return e;
};
const unpack = async text => {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return JSON.parse(await new Response(stream).text());
};
// Classes of a contender's lines; pretrained ones have another dash than the same from scratch.
const lineOf = ([, colour, pretrained]) => {
  const dash = (colour + Math.floor(colour / 8) + (pretrained ? 2 : 0)) % 4;
  return `l c${colour % 8}` + (dash ? ` d${dash}` : '');
};
const openLevel = async (place, name, event) => {
  if (place !== shown) views = JSON.parse(place.querySelector('script').textContent);
  shown = place;
  const at = views.names.indexOf(name);
  if (at < 0) {
    if (event) say(name + ': no picture, its map was not found', event.clientX, event.clientY);
    return;
  }
  current = at;
  const turn = ++turns;
  say('');
  if (!dialog) {
    dialog = make('dialog', document.body);
    const head = make('header', dialog),
      title = make('h3', head);
    title.id = 'level';
    dialog.setAttribute('aria-labelledby', 'level');
    const go = step => openLevel(shown, views.names[(current + step + views.names.length) % views.names.length]);
    for (const [words, act] of [
      ['Previous', () => go(-1)],
      ['Next', () => go(1)],
      ['Close', () => dialog.close()],
    ]) {
      const b = make('button', head, words);
      b.type = 'button';
      b.addEventListener('click', act);
    }
    const body = make('div', dialog);
    body.className = 'body';
    dialog.addEventListener('click', e => {
      if (e.target === dialog) dialog.close();
    });
    dialog.addEventListener('keydown', e => {
      if (e.key === 'ArrowRight') go(1);
      if (e.key === 'ArrowLeft') go(-1);
    });
    dialog.addEventListener('close', () => say(''));
  }
  dialog.querySelector('h3').textContent = name;
  const body = dialog.querySelector('.body');
  body.textContent = '';
  if (!dialog.open) dialog.showModal();
  let level;
  try {
    level = await unpack(views.data[at]);
  } catch (e) {
    body.textContent = 'This browser cannot unpack the level: ' + e;
    return;
  }
  if (turn !== turns) return; // another one was opened meanwhile
  const [x0, y0, x1, y1] = level.b;
  const box = { viewBox: [x0, y0, x1 - x0, y1 - y0].join(' ') },
    inside = { x: x0, y: y0, width: x1 - x0, height: y1 - y0 };
  const outer = draw(body, 'svg', {
    class: 'field',
    ...box,
    role: 'img',
    'aria-label': 'level ' + name + ' with every run',
  });
  const svg = draw(outer, 'svg', { ...box, ...inside, overflow: 'hidden' }); // cuts off what cannot be reached
  draw(svg, 'rect', { ...inside, fill: '#d8dae0' });
  let ground = '';
  for (let r = 0; r < 25; r++)
    for (let c = 0; c < 44; c++) {
      const inside = r > 0 && r < 24 && c > 0 && c < 43,
        k = 2 * ((r - 1) * 42 + c - 1);
      const t = inside ? parseInt(level.t.substr(k, 2), 16) : 1,
        shape = t < views.tiles.length ? views.tiles[t] : '';
      if (shape) ground += `<path transform="translate(${24 * c} ${24 * r})" d="${shape}"/>`;
    }
  const g = draw(svg, 'g', { fill: '#74798d', stroke: '#74798d', 'stroke-width': 0.4 });
  g.innerHTML = ground;
  const placed = level.e.map(([s, x, y]) => `<g transform="translate(${x} ${y})">${views.symbols[s]}</g>`),
    ninja = placed.pop();
  draw(svg, 'g', {}).innerHTML = placed.join('');
  const scale = Math.max(0.55, Math.min(1.2, (x1 - x0) / 700)),
    list = make('div', body);
  list.className = 'runs';
  let kept = null;
  const groups = [];
  const show = n => {
    groups.forEach((e, k) => e && e.classList.toggle('n', n !== null && n !== k));
    if (groups[n]) svg.insertBefore(groups[n], top);
  };
  const top = draw(svg, 'g', { 'pointer-events': 'none' });
  top.innerHTML = ninja;
  level.r.forEach(([k, seed, how, frames, way], n) => {
    const [title, colour] = views.contenders[k],
      kind = lineOf(views.contenders[k]),
      who = title + ', seed ' + seed;
    const what = views.outcomes[how] + (frames ? ' after ' + (frames / 60).toFixed(1) + ' s' : '');
    const b = make('button', list);
    b.type = 'button';
    b.setAttribute('aria-pressed', 'false');
    const line = draw(b, 'svg', { viewBox: '0 0 34 14', 'aria-hidden': 'true' });
    draw(line, 'path', { d: 'M1 7H33', class: kind });
    make('span', b, who + ': ' + what);
    groups.push(null);
    if (!way.length) {
      b.disabled = true;
      return;
    }
    const points = [];
    let x = 0,
      y = 0;
    for (let q = 0; q < way.length; q += 2) {
      x += way[q];
      y += way[q + 1];
      points.push([x, y]);
    }
    const group = draw(svg, 'g', { class: 'c' + (colour % 8) }, who + ': ' + what),
      d = 'M' + points.map(p => p.join(' ')).join('L');
    groups[n] = group;
    draw(group, 'path', { d, class: 'k', 'stroke-width': 4.6 * scale });
    draw(group, 'path', { d, class: kind, style: 'stroke-width:' + 2.2 * scale });
    for (let s = 1; s * 60 < frames; s++) {
      const p = (s * 60) / views.stride,
        q = Math.floor(p),
        a = points[q],
        b = points[Math.min(q + 1, points.length - 1)];
      if (!a) break;
      draw(
        group,
        'circle',
        {
          cx: a[0] + (b[0] - a[0]) * (p - q),
          cy: a[1] + (b[1] - a[1]) * (p - q),
          r: (s % 5 ? 2 : 3.2) * scale,
          class: 'p h',
        },
        who + ': ' + s + ' s',
      );
    }
    const [ex, ey] = points[points.length - 1],
      r = 5 * scale;
    if (how === 0) draw(group, 'circle', { cx: ex, cy: ey, r, class: 'p h', style: 'stroke-width:' + 2.4 * scale });
    else
      draw(group, 'path', {
        d: `M${ex - r} ${ey - r}L${ex + r} ${ey + r}M${ex - r} ${ey + r}L${ex + r} ${ey - r}`,
        class: 'l',
        style: 'stroke-width:' + 2.8 * scale,
      });
    for (const e of ['mouseenter', 'focus']) b.addEventListener(e, () => show(n));
    for (const e of ['mouseleave', 'blur']) b.addEventListener(e, () => show(kept));
    b.addEventListener('click', () => {
      kept = kept === n ? null : n;
      show(kept);
      list.querySelectorAll('button').forEach((o, q) => o.setAttribute('aria-pressed', String(q === kept)));
    });
  });
  svg.append(top);
  svg.addEventListener('pointermove', e => {
    const t = e.target.closest('[data-t]');
    say(t ? t.dataset.t : '', e.clientX, e.clientY);
  });
  svg.addEventListener('pointerleave', () => say(''));
};
for (const place of document.querySelectorAll('.open')) {
  const select = place.querySelector('select'),
    { names } = JSON.parse(place.querySelector('script').textContent);
  names.forEach(name => (make('option', select, name).value = name));
  place.hidden = false;
  select.addEventListener('change', () => {
    if (select.value) openLevel(place, select.value);
    select.value = '';
  });
  // Pictures of failures before it open their level.
  for (const figure of document.querySelectorAll('.gallery figure:not([data-open])')) {
    const name = figure.querySelector('strong').textContent;
    if (!names.includes(name)) continue;
    figure.dataset.open = name;
    const button = make('button', figure.querySelector('figcaption'), 'Open with every run');
    button.className = 'visit';
    button.type = 'button';
    button.addEventListener('click', () => openLevel(place, name));
  }
}
