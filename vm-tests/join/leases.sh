# etcd's leases are the workers' subnets, each with its worker's address.
set -eu
prefix=/kubernetes-cluster/network/subnets
check() {
    # 10.200.7.1/24 in subnet.env is 10.200.7.0-24 in etcd.
    key=$prefix/$(echo "$1" | sed 's|\.[0-9]*/|.0-|')
    value=$(/usr/lib/nodelith/etcdctl-admin get --print-value-only "$key")
    case $value in *"\"PublicIP\":\"$2\""*) ;; *) echo "$key is: $value"; exit 1 ;; esac
}
check "$lease_worker_1" "$address_worker_1"
check "$lease_worker_2" "$address_worker_2"
[ "$(/usr/lib/nodelith/etcdctl-admin get --prefix --keys-only "$prefix" | grep -c .)" = 2 ]
