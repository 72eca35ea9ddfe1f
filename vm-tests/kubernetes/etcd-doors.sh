# In etcd, flannel and the API server reach their own keys, and secrets are not readable even to who holds the disk.
set -eu
read -r own </run/nodelith/address
as() {
    certs=/var/lib/nodelith/certificates/$1
    shift
    # By default it gives up after two seconds, and a translated guest under load needs more.
    etcdctl --endpoints="https://$own:2379" --cacert="$certs/ca.pem" --cert="$certs/cert.pem" --key="$certs/key.pem" \
        --dial-timeout=60s --command-timeout=60s "$@" 2>&1
}
has() { case $1 in *"$2"*) ;; *) echo "no $2: $1"; exit 1 ;; esac; }
denied() { case $1 in *'permission denied'*) ;; *) echo "not denied: $1"; exit 1 ;; esac; }

has "$(as flannel get --prefix --keys-only /kubernetes-cluster/network/ || true)" /kubernetes-cluster/network/subnets/
denied "$(as flannel get --prefix --keys-only /registry/ || true)"
denied "$(as flannel put /registry/x y || true)"
denied "$(as kube-apiserver-etcd get --prefix --keys-only /kubernetes-cluster/network/ || true)"
for other in kube-controller-manager kubernetes-admin; do
    denied "$(as "$other" get --prefix --keys-only /registry/ || true)"
done
/usr/lib/nodelith/etcdctl-admin get --print-value-only /registry/secrets/kube-system/treasure >/tmp/treasure
grep -qa 'k8s:enc:secretbox:v1:first:' /tmp/treasure || { echo 'the secret is not encrypted'; exit 1; }
if grep -qa sesame /tmp/treasure; then echo 'the secret can be read'; exit 1; fi
