# Every pod answers this machine, workers and controller alike.
set -eu
for pod in $pods_controller; do
    [ "$(curl -s -o /dev/null -w '%{http_code}' --max-time 60 "http://$pod:8080/healthz")" = 200 ] || { echo "$pod does not answer"; exit 1; }
done
[ "$(echo "$pods_controller" | wc -w)" = 4 ]
# NodePorts of both workers, by their addresses on the outer network; the hostPort of the one that has it.
for url in "http://$address_worker_1:30080/healthz" "http://$address_worker_2:30080/healthz" "http://$address_worker_1:8088/healthz"; do
    [ "$(curl -s -o /dev/null -w '%{http_code}' --max-time 60 "$url")" = 200 ] || { echo "$url does not answer"; exit 1; }
done
