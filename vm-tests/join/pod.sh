# Starts a container on the node's own root, by containerd and the rendered network, that sends back what it gets.
# Prints its address.
set -eu
root=/run/nodelith-lab/root
mkdir -p "$root"
mountpoint -q "$root" || mount --bind / "$root"
ctr run --detach --null-io --cni --rootfs --read-only \
    --env PATH=/usr/sbin:/usr/bin "$root" pod socat TCP-LISTEN:7000,fork,reuseaddr EXEC:cat >&2
ctr task exec --exec-id address pod ip -o -4 address show dev eth0 | sed 's/.* inet \([0-9.]*\).*/\1/'
