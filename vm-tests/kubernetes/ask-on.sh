# Asks the API server on and on: for itself, for the node in etcd, and for what only the node's kubelet can answer.
#
# When the API server sees that its certificate for kubelets is a new one, client-go closes all its connections to them,
# also the one on which it saw it: a request on one of these is answered 503 and works when it is repeated. It is noted.
set -eu
cat >/run/ask-on <<'END'
dir=/var/lib/nodelith/certificates/kubernetes-admin
read -r address </run/nodelith/address
ask() {
    code=$(curl --silent --output /run/answer --write-out '%{http_code}' --max-time 60 --cacert "$dir/ca.pem" \
        --cert "$dir/cert.pem" --key "$dir/key.pem" "https://$address:6443$1")
    line="$(date +%T) $1 $code"
    if [ "$code" != 200 ]; then
        line="$line $(tr -d '\n' </run/answer | cut -c1-300)"
        echo "$line" >/dev/console
    fi
}
: >/run/repeated
while sleep 5; do
    for path in /readyz /api/v1/nodes/worker-1 /api/v1/nodes/worker-1/proxy/healthz; do
        ask "$path"
        case $line in
        *'use of closed network connection'*)
            echo "$line" >>/run/repeated
            ask "$path"
            ;;
        esac
        echo "$line" >>/run/answers
    done
done
END
systemd-run --quiet --unit=ask-on sh /run/ask-on
