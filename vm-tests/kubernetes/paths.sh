# From this worker's pod and from the worker itself to the other's pod, by its address and by its service: who is seen there,
# how large a packet may be, whether a stream comes back whole.
set -eu
# want SEEN WANTED WHAT
want() { [ "$1" = "$2" ] || { echo "$3: $1, not $2"; exit 1; }; }
set -- $echoes_controller
case $name in
worker-1) mine=$1 theirs=$2 service=10.32.0.82 ;;
*) mine=$2 theirs=$1 service=10.32.0.81 ;;
esac
. /run/flannel/subnet.env
node=$(ip -o -4 address show dev flannel.1 | sed 's/.* inet \([0-9.]*\).*/\1/')
pod=$(ctr -n k8s.io containers list -q 'labels."io.kubernetes.container.name"==echo')
in_pod() { ctr -n k8s.io task exec --exec-id "path-$$-$1" "$pod" sh -c "$2"; }

# By a service it is the pod's own address too, unless the spec has all of that masqueraded.
by_service=$mine
if grep -q 'masqueradeAll: true' /etc/kubernetes/kube-proxy.yaml; then by_service=$node; fi

for to in "$theirs" "$service"; do
    if [ "$to" = "$service" ]; then mine=$by_service; fi
    want "$(in_pod "peer-$to" "socat -t 10 - TCP4:$to:7000 </dev/null")" "$mine" "a pod, as $to sees it"
    want "$(socat -t 10 - "TCP4:$to:7000" </dev/null)" "$node" "a node, as $to sees it"
    # IP and UDP headers are 28 bytes; 2 forbids to fragment.
    for size in $((FLANNEL_MTU - 28)) $((FLANNEL_MTU - 27)); do
        back=$(in_pod "udp-$to-$size" "head -c $size /dev/zero | socat -t 5 - UDP4:$to:7001,mtudiscover=2 | wc -c")
        if [ "$size" -gt $((FLANNEL_MTU - 28)) ]; then size=0; fi
        want "$back" "$size" "bytes of a datagram that come back from $to"
    done
    sums=$(in_pod "tcp-$to" "head -c 1048576 /dev/urandom >/tmp/sent && socat -t 20 - TCP4:$to:7002 </tmp/sent >/tmp/back; sha256sum </tmp/sent; sha256sum </tmp/back")
    want "$(echo "$sums" | sort -u | wc -l)" 1 "sums of what was sent to $to and came back"
done
