# Another lease than before restarts Docker, and the same one does not.
set -eu
run() { systemctl show -p InvocationID --value docker.service; }
before=$(run)
systemctl restart --job-mode=ignore-dependencies flanneld.service
[ "$(run)" = "$before" ] || { echo 'Docker was restarted without need'; exit 1; }
echo 10.0.0.1/24 >/run/flannel/lease
systemctl restart --job-mode=ignore-dependencies flanneld.service
until [ "$(run)" != "$before" ] && [ "$(systemctl is-active docker.service)" = active ]; do sleep 1; done
