# From this node's container to the other's: the largest ping passes, one byte more does not, 1 MiB comes back whole.
set -eu
case $name in worker-1) peer=$pod_worker_2 ;; *) peer=$pod_worker_1 ;; esac
. /run/flannel/subnet.env
in_pod() { ctr task exec --exec-id "x$$-$1" pod sh -c "$2"; }

# ICMP and IP headers are 28 bytes.
in_pod most "ping -c 3 -W 2 -M do -s $((FLANNEL_MTU - 28)) $peer"
if in_pod more "ping -c 1 -W 2 -M do -s $((FLANNEL_MTU - 27)) $peer"; then
    echo "a packet larger than the MTU passed"
    exit 1
fi
in_pod bulk "head -c 1048576 /dev/urandom >/dev/shm/sent && socat -t 20 - TCP:$peer:7000 </dev/shm/sent >/dev/shm/back"
sums=$(in_pod sums "sha256sum </dev/shm/sent; sha256sum </dev/shm/back; wc -c </dev/shm/back" | sort -u)
[ "$(echo "$sums" | wc -l)" = 2 ] || { echo "1 MiB came back otherwise: $sums"; exit 1; }
