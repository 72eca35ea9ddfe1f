# In etcd, flannel and the API server reach their own keys, and secrets are not readable even to who holds the disk.
set -eu
read -r own </run/nodelith/address
as() {
    certs=/var/lib/nodelith/certificates/$1
    shift
    etcdctl --endpoints="https://$own:2379" --cacert="$certs/ca.pem" --cert="$certs/cert.pem" --key="$certs/key.pem" "$@" 2>&1
}
denied() { case $1 in *'permission denied'*) ;; *) echo "not denied: $1"; exit 1 ;; esac; }

as flannel get --prefix --keys-only /kubernetes-cluster/network/ | grep -q /kubernetes-cluster/network/subnets/
denied "$(as flannel get --prefix --keys-only /registry/ || true)"
denied "$(as flannel put /registry/x y || true)"
denied "$(as kube-apiserver-etcd get --prefix --keys-only /kubernetes-cluster/network/ || true)"
for other in kube-controller-manager kubernetes-admin; do
    refused=$(as "$other" get --prefix --keys-only /registry/ || true)
    case $refused in */registry/*) echo "$other reads /registry/"; exit 1 ;; esac
done
/usr/lib/nodelith/etcdctl-admin get --print-value-only /registry/secrets/kube-system/treasure >/tmp/treasure
grep -qa 'k8s:enc:secretbox:v1:first:' /tmp/treasure
! grep -qa sesame /tmp/treasure
