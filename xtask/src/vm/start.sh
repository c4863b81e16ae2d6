#!/usr/bin/busybox sh
# Makes the machine look like a Debian that has just booted, runs the tests, tells their exit code.
set -e
export PATH=/usr/sbin:/usr/bin HOME=/root LANG=C.UTF-8 CLAWD_BIN_DIR=/opt/clawd
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=0620,ptmxmode=0666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs -o mode=0755 run /run
mount -t securityfs securityfs /sys/kernel/security
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -sf /proc/self/fd /dev/fd
exec </dev/null >/dev/ttyS1 2>&1
# Kernel messages are shown on the other port.
while read -r module; do insmod "/usr/lib/clawd-modules/$module"; done </usr/lib/clawd-modules/order
ip link set lo up

set --
while IFS= read -r argument; do set -- "$@" "$argument"; done </opt/clawd/test-arguments
cd /opt/clawd
echo "kernel $(uname -r)"
code=0
for test in /opt/clawd/tests/*; do
    echo "running $test"
    "$test" "$@" || code=$?
done
echo "CLAWD-VM-EXIT $code"
# The other side ends the machine as soon as it has read the line.
sleep 5
reboot -f
