# Asks the API server on and on: for itself, for the node in etcd, and for what only the node's kubelet can answer.
set -eu
cat >/run/ask-on <<'END'
dir=/var/lib/nodelith/certificates/kubernetes-admin
read -r address </run/nodelith/address
while sleep 5; do
    for path in /readyz /api/v1/nodes/worker-1 /api/v1/nodes/worker-1/proxy/healthz; do
        code=$(curl --silent --output /run/answer --write-out '%{http_code}' --max-time 20 --cacert "$dir/ca.pem" \
            --cert "$dir/cert.pem" --key "$dir/key.pem" "https://$address:6443$path")
        line="$(date +%T) $path $code"
        if [ "$code" != 200 ]; then
            line="$line $(tr -d '\n' </run/answer | cut -c1-300)"
            echo "$line" >/dev/console
        fi
        echo "$line" >>/run/answers
    done
done
END
systemd-run --quiet --unit=ask-on sh /run/ask-on
