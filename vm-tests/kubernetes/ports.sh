# The service's virtual address answers on a worker, and the API server behind its own.
set -eu
[ "$(curl -s -o /dev/null -w '%{http_code}' --max-time 10 http://10.32.0.80/healthz)" = 200 ]
[ "$(curl -sk -o /dev/null -w '%{http_code}' --max-time 10 https://10.32.0.1/readyz)" = 200 ]
# The virtual address's rules are nftables'.
nft list table ip kube-proxy | grep -q 10.32.0.80
