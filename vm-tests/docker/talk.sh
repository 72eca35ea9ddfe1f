# From this host's box to the other's nginx: the largest ping passes, one byte more does not, 1 MiB comes whole. Out of
# the pods' network the controller answers, which knows no way back to it: somebody masquerades.
set -eu
export DOCKER_CONFIG=/run/nodelith-lab/docker
case $name in worker-1) set -- $containers_worker_2 ;; *) set -- $containers_worker_1 ;; esac
. /run/flannel/subnet.env
# ping of the box cannot forbid fragments, so the host's does it in the box's network.
from_box() { nsenter --target "$(docker inspect --format '{{.State.Pid}}' box)" --net ping -W 2 -M do "$@"; }

# ICMP and IP headers are 28 bytes.
from_box -c 3 -s $((FLANNEL_MTU - 28)) "$1"
if from_box -c 1 -s $((FLANNEL_MTU - 27)) "$1"; then
    echo "a packet larger than the MTU passed"
    exit 1
fi
[ "$(docker exec box sh -c "curl --silent --fail --max-time 30 http://$1:8080/bulk | sha256sum")" = "$3  -" ]
docker exec box curl --silent --insecure --max-time 60 "https://$address_controller:8443/health" | grep '"ok"'
