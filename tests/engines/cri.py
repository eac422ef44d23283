#!/usr/bin/python3
"""Drives a runtime of Kubernetes pods by its gRPC interface (CRI), as a kubelet does, and prints what comes of it.

    cri.py SOCKET HANDLER FOLDER IMAGE

Makes a pod of two containers, looks into both, changes a limit, and removes all of it; FOLDER is for their logs. Messages
are put together by the numbers of their fields in k8s.io/cri-api's api.proto.
"""

import sys
import time

import grpc

RUNNING, EXITED = 1, 2
POD, CONTAINER, NODE = 0, 1, 2


def number(value):
    """A varint."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(fields):
    """A message of {number: value}; a list is a repeated field, a dict a message, a tuple an entry of a map."""
    out = b""
    for field, value in fields.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, int):
                out += number(field << 3) + number(item)
                continue
            if isinstance(item, dict):
                item = message(item)
            elif isinstance(item, tuple):
                item = message({1: item[0], 2: item[1]})
            elif isinstance(item, str):
                item = item.encode()
            out += number(field << 3 | 2) + number(len(item)) + item
    return out


def parse(data):
    """A message as {number: [value]}, messages in it as bytes."""
    fields, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        value = varint()
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        fields.setdefault(key >> 3, []).append(value)
    return fields


class Runtime:
    """A connection."""

    def __init__(self, socket):
        self.channel = grpc.insecure_channel("unix://" + socket)

    def call(self, method, fields):
        """Calls a method of the runtime service."""
        call = self.channel.unary_unary("/runtime.v1.RuntimeService/" + method)
        return parse(call(message(fields), timeout=120, wait_for_ready=True))

    def sh(self, container, script):
        """What a script in a container prints, and its exit code."""
        reply = self.call("ExecSync", {1: container, 2: ["sh", "-c", script], 3: 60})
        return reply.get(1, [b""])[0].decode(), reply.get(3, [0])[0]

    def status(self, container):
        """State and exit code of a container."""
        status = parse(self.call("ContainerStatus", {1: container})[1][0])
        return status.get(3, [0])[0], status.get(7, [0])[0]


def main():
    """Lives the life of a pod."""
    socket, handler, folder, image = sys.argv[1:]
    runtime = Runtime(socket)
    security = {1: {1: POD, 2: CONTAINER, 3: POD}}
    pod_config = {1: {1: "pod", 2: "uid-1", 3: "default", 4: 0}, 2: "podhost", 3: folder, 6: [("app", "test")],
                  8: {1: "/mydocker-pods/pod1", 2: security}}
    pod = runtime.call("RunPodSandbox", {1: pod_config, 2: handler})[1][0]
    status = parse(runtime.call("PodSandboxStatus", {1: pod})[1][0])
    print("pod of", status[9][0].decode(), "ready" if 3 not in status else "not ready")

    def create(name, script):
        resources = {4: 64 << 20, 3: 512, 5: 1000}
        config = {1: {1: name, 2: 0}, 2: {1: image}, 3: ["sh", "-c", script], 6: [{1: "NAME", 2: name}], 11: name + ".log",
                  15: {1: resources, 2: {3: security[1]}}}
        container = runtime.call("CreateContainer", {1: pod, 2: config, 3: pod_config})[1][0]
        runtime.call("StartContainer", {1: container})
        return container

    one = create("one", "echo from $NAME; trap 'exit 3' TERM; while :; do sleep 0.1; done")
    two = create("two", "echo from $NAME; sleep 1000")
    print("running", [runtime.status(container)[0] == RUNNING for container in (one, two)])
    for kind in ("net", "ipc", "uts", "mnt", "pid"):
        link = "readlink /proc/self/ns/" + kind
        shared = runtime.sh(one, link)[0] == runtime.sh(two, link)[0]
        print(kind, "of the pod" if shared else "of each")
    print("host", runtime.sh(one, "hostname")[0].strip(), runtime.sh(two, "hostname")[0].strip())
    print("address", runtime.sh(one, "ip -4 -o addr show eth0 | grep -c 10.88.77")[0].strip())
    limit = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null"
    print("limit", runtime.sh(one, limit)[0].strip())
    runtime.call("UpdateContainerResources", {1: one, 2: {4: 48 << 20}})
    print("limit", runtime.sh(one, limit)[0].strip(), runtime.sh(two, limit)[0].strip())
    print("exit", runtime.sh(two, "exit 7")[1])
    stats = parse(parse(runtime.call("ContainerStats", {1: one})[1][0])[3][0])
    print("memory in use", parse(stats[2][0])[1][0] > 0)
    runtime.call("StopContainer", {1: one, 2: 20})
    print("stopped", runtime.status(one) == (EXITED, 3))
    with open(folder + "/one.log", encoding="utf-8") as log:
        print("log", log.readline().split(" ", 3)[3].strip())
    runtime.call("RemoveContainer", {1: one})
    # What is left of the pod goes with it.
    runtime.call("StopPodSandbox", {1: pod})
    print("stopped", runtime.status(two)[0] == EXITED)
    runtime.call("RemovePodSandbox", {1: pod})
    time.sleep(0.1)
    print("left", len(runtime.call("ListPodSandbox", {}).get(1, [])), len(runtime.call("ListContainers", {}).get(1, [])))


if __name__ == "__main__":
    main()
