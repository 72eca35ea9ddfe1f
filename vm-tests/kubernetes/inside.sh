# From a pod: names, the service, its own service account; and through kubelet: logs and exec.
set -eu
ctl() { HOME=/tmp /usr/lib/nodelith/kubectl-admin "$@"; }
in_pod() { ctl exec toolbox -- sh -c "$1"; }
[ "$(in_pod 'curl -s -o /dev/null -w %{http_code} --max-time 20 http://my-nginx/healthz')" = 200 ]
[ "$(in_pod 'curl -s -o /dev/null -w %{http_code} --max-time 20 http://my-nginx.default.svc.cluster.local/healthz')" = 200 ]
in_pod 'curl -s --max-time 20 --cacert /var/run/secrets/kubernetes.io/serviceaccount/ca.crt https://kubernetes.default.svc/readyz' | grep -qx ok
ctl logs -l run=my-nginx --tail=50 | grep -q /healthz
[ "$(in_pod 'id -u')" = 65532 ]
