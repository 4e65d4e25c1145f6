#!/usr/bin/env bash
# Two architectures, every run and the report kept in an S3 bucket; credentials as boto3 finds them.
#   bash benchmark/sweeps/with_s3.sh BUCKET [further flags of the runner, such as --s3-endpoint-url http://host:9000]
set -euo pipefail
bucket=${1:?"the name of the bucket is missing"}
shift
cd "$(dirname "$0")/../.."
exec python -m benchmark.train_and_compare --experiment-name with_s3 --seeds 1 2 3 --max-minutes 30 \
    --architectures mlp_baseline vision_free --s3-bucket "$bucket" --s3-prefix experiments --s3-sync-freq 500000 "$@"
