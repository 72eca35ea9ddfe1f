# This host's nginx saw the other's box under that box's own address, and nobody else.
set -eu
export DOCKER_CONFIG=/run/nodelith-lab/docker
case $name in worker-1) set -- $containers_worker_2 ;; *) set -- $containers_worker_1 ;; esac
seen=$(docker logs web 2>/dev/null | grep 'GET /bulk' | cut -d ' ' -f 1 | sort -u)
[ "$seen" = "$2" ] || { echo "the box $2 was seen as: $seen"; exit 1; }
