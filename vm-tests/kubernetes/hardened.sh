# kubelet answers nobody without a certificate, listens where it says, and its files are root's.
set -eu
[ "$(curl -sk -o /dev/null -w '%{http_code}' "https://$address:10250/pods")" = 401 ]
[ "$(curl -sk -o /dev/null -w '%{http_code}' --cert /var/lib/nodelith/certificates/kube-proxy/cert.pem \
    --key /var/lib/nodelith/certificates/kube-proxy/key.pem "https://$address:10250/pods")" = 403 ]
for file in /etc/kubernetes/kubelet.yaml /usr/lib/systemd/system/kubelet.service /run/kubelet/kubeconfig /run/kube-proxy/kubeconfig /var/lib/nodelith/certificates/*/key.pem; do
    [ "$(stat -c '%a %U:%G' "$file")" = '600 root:root' ] || { stat "$file"; exit 1; }
done
