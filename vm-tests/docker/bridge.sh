# The bridge has the lease's address, and it and its containers the MTU of vxlan.
set -eu
export DOCKER_CONFIG=/run/nodelith-lab/docker
. /run/flannel/subnet.env
ip -o -4 address show dev docker0 | grep " inet $FLANNEL_SUBNET "
[ "$(cat /sys/class/net/flannel.1/mtu)" = "$FLANNEL_MTU" ]
[ "$(cat /sys/class/net/docker0/mtu)" = "$FLANNEL_MTU" ]
[ "$(docker exec box cat /sys/class/net/eth0/mtu)" = "$FLANNEL_MTU" ]
[ "$(docker exec box cat /proc/self/attr/current)" = 'docker-default (enforce)' ]
