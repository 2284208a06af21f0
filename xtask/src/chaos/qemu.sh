#!/bin/sh
# Stands in for QEMU in a chaos lab: the guest's disk is not the file itself but an
# NBD server outside, with a socket for each host, which sees who writes.
host=none
for word do
    case $word in
    */hosts/*) host=${word#*/hosts/} host=${host%%/*} ;;
    esac
done
nbd='"file":{"driver":"nbd","export":"disk","server":{"path":"@SOCKETS@-'$host'","type":"unix"}}'
for word do
    shift
    case $word in
    '{'*'"file":{'*'"filename":'*)
        word=$(printf '%s' "$word" | sed 's#"file":{.*"filename":"[^"]*"[^}]*}#'"$nbd"'#')
        ;;
    esac
    set -- "$@" "$word"
done
exec @QEMU@ "$@"
