# Forgets the certificate that the only token bought, and asks for another with the same token.
set -eu
systemctl stop flanneld.service
rm -r /var/lib/nodelith/certificates/flannel
if systemctl restart nodelith-certificate@flannel.service; then
    echo "a spent token was taken"
    exit 1
fi
[ ! -e /var/lib/nodelith/certificates/flannel/cert.pem ]
