# With this node's own certificates, what is its own is open, and everything else shut.
set -eu
api=https://$address_controller:6443
bad=0
# answer CERTIFICATE METHOD PATH [BODY]: the API server's status.
answer() {
    dir=/var/lib/nodelith/certificates/$1
    curl --silent --output /dev/null --write-out '%{http_code}' --cacert "$dir/ca.pem" --cert "$dir/cert.pem" --key "$dir/key.pem" \
        --request "$2" --header 'Content-Type: application/merge-patch+json' --data "${4:-}" "$api$3"
}
want() {
    code=$1
    shift
    seen=$(answer "$@") || true
    [ "$seen" = "$code" ] || { echo "$*: $seen, not $code"; bad=1; }
}

want 200 kubelet GET "/api/v1/nodes/$name"
want 200 kubelet PATCH "/api/v1/nodes/$name" '{"metadata":{"labels":{"example.org/mine":"yes"}}}'
want 403 kubelet PATCH "/api/v1/nodes/$name" '{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}'
want 403 kubelet PATCH "/api/v1/nodes/$name" '{"spec":{"taints":null,"unschedulable":true,"podCIDR":"10.9.0.0/24"},"metadata":{"labels":{"node-restriction.kubernetes.io/x":"y"}}}'
want 403 kubelet PATCH /api/v1/nodes/worker-2 '{"metadata":{"labels":{"example.org/yours":"mine"}}}'
want 403 kubelet DELETE /api/v1/nodes/worker-2
want 403 kubelet DELETE "/api/v1/nodes/$name"
for certificate in kubelet kube-proxy flannel; do
    want 403 "$certificate" GET /api/v1/secrets
    want 403 "$certificate" GET /api/v1/namespaces/kube-system/secrets/treasure
done
# Of signing requests, which hold public keys, every kubelet may read by Kubernetes' own rules; others may not.
for certificate in kube-proxy flannel; do
    want 403 "$certificate" GET /apis/certificates.k8s.io/v1/certificatesigningrequests
done
# Without any certificate: whether it lives, and nothing else.
bare() { curl --silent --insecure --output /dev/null --write-out '%{http_code}' "$api$1"; }
[ "$(bare /readyz)" = 200 ] || { echo "readyz without a certificate: $(bare /readyz)"; bad=1; }
for path in /version /api /api/v1/nodes /openapi/v2 /metrics; do
    [ "$(bare "$path")" = 401 ] || { echo "$path without a certificate: $(bare "$path")"; bad=1; }
done
exit "$bad"
