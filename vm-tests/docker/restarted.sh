# flanneld runs anew, with the new certificate and the lease that it had; the containers are the ones that ran before.
set -eu
export DOCKER_CONFIG=/run/nodelith-lab/docker
eval "set -- \$lives_$(echo "$name" | tr - _)"
[ "$(systemctl is-active flanneld.service)" = active ]
[ "$(systemctl show -p InvocationID --value flanneld.service)" != "$3" ] || { echo 'flanneld was not restarted'; exit 1; }
[ "$(docker inspect --format '{{.State.Pid}}' web box | paste -s -d ' ')" = "$1 $2" ]
