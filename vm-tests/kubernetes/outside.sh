# Outside of the pods' network, a pod is seen by its node's address.
set -eu
pod=$(ctr -n k8s.io containers list -q 'labels."io.kubernetes.container.name"==echo')
seen=$(ctr -n k8s.io task exec --exec-id "outside-$$" "$pod" sh -c "socat -t 10 - TCP4:$address_controller:7777 </dev/null")
[ "$seen" = "$address" ] || { echo "the controller sees $seen, not $address"; exit 1; }
