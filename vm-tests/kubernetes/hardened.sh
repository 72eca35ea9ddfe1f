# The twelve items of the CIS Kubernetes Benchmark that are checked by machine on a worker, by their numbers, and how
# exposed our own units are in the eyes of systemd.
set -eu
bad=0
# want ITEM SEEN WANTED
want() { [ "$2" = "$3" ] || { echo "$1: $2, not $3"; bad=1; }; }
config=/etc/kubernetes/kubelet.yaml
owned() { want "$1" "$(stat -c '%a %U:%G' "$2")" '600 root:root'; }
# ask CERTIFICATE: what kubelet answers to who shows it.
ask() {
    dir=/var/lib/nodelith/certificates/$1
    shift
    [ "$dir" = /var/lib/nodelith/certificates/ ] || set -- --cert "$dir/cert.pem" --key "$dir/key.pem"
    curl -sk -o /dev/null -w '%{http_code}' --max-time 60 "$@" "https://$address:10250/pods" || true
}
given() { grep -c "$1" "$config" || true; }

owned 4.1.1-2 /usr/lib/systemd/system/kubelet.service
owned 4.1.5-6 /run/kubelet/kubeconfig
owned 4.1.9-10 "$config"
want 4.2.1 "$(given 'anonymous: {enabled: false}') $(ask '')" '1 401'
want 4.2.2 "$(given 'authorization: {mode: Webhook}') $(ask kube-proxy)" '1 403'
want 4.2.3 "$(given 'clientCAFile: /var/lib/nodelith/certificates/kubelet/ca.pem')" 1
want 4.2.6 "$(given 'makeIPTablesUtilChains: true')" 1
want 4.2.10 "$(given ^rotateCertificates)" 0
want 4.3.1 "$(ss --no-header --numeric --listening --tcp 'sport = :10249' | while read -r _ _ _ local _; do echo "$local"; done)" 127.0.0.1:10249
# Of those for people: no kubeconfig and no key that others than root can read, no port without authentication.
for file in /run/kube-proxy/kubeconfig /var/lib/nodelith/certificates/*/key.pem; do owned 4.1.3-4 "$file"; done
want 4.2.4 "$(ss --no-header --listening --tcp 'sport = :10255' | wc -l)" 0

exposed() { systemd-analyze security --no-pager --threshold="$1" "$2" >/tmp/exposed || { tail -n 1 /tmp/exposed; bad=1; }; }
exposed 21 nodelith-certificate@kubelet.service
exposed 21 nodelith-renew.service
exposed 20 nodelith-node.service
exposed 30 flanneld.service
exit "$bad"
