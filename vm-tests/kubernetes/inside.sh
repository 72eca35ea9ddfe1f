# From a pod: names, the service, its own service account; and through kubelet: logs and exec.
set -eu
ctl() { HOME=/tmp /usr/lib/nodelith/kubectl-admin "$@"; }
in_pod() { ctl exec toolbox -- sh -c "$1"; }
# want SEEN WANTED WHAT
want() { [ "$1" = "$2" ] || { echo "$3: $1, not $2"; exit 1; }; }
for name in my-nginx my-nginx.default.svc.cluster.local; do
    want "$(in_pod "curl -s -o /dev/null -w %{http_code} --max-time 60 http://$name/healthz || true")" 200 "http://$name from a pod"
done
account='curl -s --max-time 60 --cacert /var/run/secrets/kubernetes.io/serviceaccount/ca.crt https://kubernetes.default.svc/readyz'
want "$(in_pod "$account || true")" ok 'the API server from a pod'
want "$(in_pod "curl -s -o /dev/null -w %{http_code} --max-time 60 http://my-nginx/asked-for || true")" 404 "a page that is not there"
ctl logs -l run=my-nginx --tail=50 | grep -q /asked-for || { echo "the request is not in the logs"; exit 1; }
want "$(in_pod 'id -u')" 65532 'the user of a pod'
