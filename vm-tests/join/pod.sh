# Starts a container on the node's own root, by containerd and the rendered network, that sends back what it gets.
# ctr looks for CNI in fixed places: a private mount namespace puts the node's there. Prints the container's address.
set -eu
root=/run/nodelith-lab/root
mkdir -p "$root" /run/nodelith-lab/etc /run/nodelith-lab/work
mountpoint -q "$root" || mount --bind / "$root"
unshare --mount sh -eu >/run/nodelith-lab/pod.log 2>&1 <<END || { cat /run/nodelith-lab/pod.log >&2; exit 1; }
mount -t tmpfs none /opt
mkdir -p /opt/cni
ln -s /usr/lib/cni /opt/cni/bin
mount -t overlay -o lowerdir=/etc,upperdir=/run/nodelith-lab/etc,workdir=/run/nodelith-lab/work overlay /etc
mkdir -p /etc/cni/net.d
cp /run/cni/net.d/10-podnet.conflist /etc/cni/net.d/
ctr run --detach --cni --rootfs --read-only "$root" pod socat TCP-LISTEN:7000,fork,reuseaddr EXEC:cat
END
ctr task exec --exec-id address pod ip -o -4 address show dev eth0 | sed 's/.* inet \([0-9.]*\).*/\1/'
