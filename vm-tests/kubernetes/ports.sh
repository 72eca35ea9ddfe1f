# The service's virtual address answers on a worker, and the API server behind its own, by the rules of nftables.
set -eu
ask() {
    code=$(curl -sk -o /dev/null -w '%{http_code}' --max-time 60 "$1") || true
    [ "$code" = 200 ] || { echo "$1: $code"; ip route; nft list ruleset | grep -c . ; exit 1; }
}
ask http://10.32.0.80/healthz
ask https://10.32.0.1/readyz
# Of both families: without IPv6's the rules of services are written again and again.
bad=$(journalctl --boot --unit=kube-proxy.service --no-pager | grep "sync failed" || true)
[ -z "$bad" ] || { echo "$bad"; exit 1; }
nft list table ip kube-proxy | grep -q 10.32.0.80 || { nft list tables; exit 1; }
