# The two containers' processes, and which run of flanneld gave them their network.
set -eu
export DOCKER_CONFIG=/run/nodelith-lab/docker
docker inspect --format '{{.State.Pid}}' web box
systemctl show -p InvocationID --value flanneld.service
