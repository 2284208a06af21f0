#!/bin/sh
# First program of a Linux guest: devices, network, then godwit-guest.
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
for module in @MODULES@; do
    busybox insmod /modules/$module || echo "guest ERROR module $module"
done
address=
read -r line < /proc/cmdline
for option in $line; do
    case $option in godwit.ip=*) address=${option#godwit.ip=} ;; esac
done
busybox ip link set lo up
if [ -n "$address" ]; then
    # Devices come up while modules load; ten seconds are plenty.
    tries=0
    while [ ! -e /sys/class/net/eth0 ] && [ $tries -lt 100 ]; do
        busybox usleep 100000
        tries=$((tries + 1))
    done
    busybox ip addr add "$address" dev eth0
    busybox ip link set eth0 up
fi
# The volume for cloud-init is the disk that cannot be written to.
for disk in /sys/block/vd*; do
    if [ -e "$disk/ro" ] && [ "$(busybox cat $disk/ro)" = 1 ]; then
        busybox mount -t iso9660 -o ro "/dev/${disk##*/}" /seed
    fi
done
godwit-guest
busybox poweroff -f
