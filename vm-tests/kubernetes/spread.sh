# At least one pod on each worker; CoreDNS on both; prints the pods' addresses.
set -eu
ctl() { HOME=/tmp /usr/lib/nodelith/kubectl-admin "$@"; }
nodes() { ctl "$@" -o 'jsonpath={range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort -u | tr '\n' ' '; }
[ "$(nodes get pods -l run=my-nginx)" = 'worker-1 worker-2 ' ] || { nodes get pods -l run=my-nginx; exit 1; }
[ "$(nodes -n kube-system get pods -l k8s-app=kube-dns)" = 'worker-1 worker-2 ' ] || { nodes -n kube-system get pods; exit 1; }
ctl get pods -l run=my-nginx -o 'jsonpath={.items[*].status.podIP}'
