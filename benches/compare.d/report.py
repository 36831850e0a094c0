"""The report of a run as Markdown: the machine it was made on, and the figures."""

import os
import pathlib
import platform
import subprocess

BASELINES = ["nginx", "envoy"]
# What is compared by itself.
PAIRS = [("wasmgate-jwt", "envoy-jwt")]
NOISE_CORES = 0.1


def markdown(report):
    lines = [
        f"- Date: {report['date']}",
        f"- Machine: {report['machine']}",
        f"- Kernel: {report['kernel']}",
        *(f"- {name}: {version}" for name, version in report["versions"].items()),
    ]
    if report["contenders"]:
        load = report["load"]
        rounds = f"{load['rounds']} rounds of {load['seconds']} s"
        lines.append(f"- Load: {load['connections']} keep-alive connections, {rounds}")
        lines += ["", *table(report["contenders"]), *pairs(report["contenders"]), *noise(report["contenders"])]
    if report["startup"]:
        lines += ["", startup(**report["startup"])]
    return "\n".join(lines) + "\n"


def table(contenders):
    head = ["gateway", "CPU us/request", *(f"of {name}" for name in BASELINES), "CPU spread"]
    head += ["requests/s", "p50 ms", "p99 ms", "RSS MiB"]
    rows = [head, *(row(name, figures, contenders) for name, figures in contenders.items())]
    first, *others = [max(map(len, column)) for column in zip(*rows)]
    rows.insert(1, ["-" * first, *("-" * (width - 1) + ":" for width in others)])
    return [f"| {name:{first}} | " + " | ".join(map(str.rjust, cells, others)) + " |" for name, *cells in rows]


def row(name, figures, contenders):
    cpu = figures["cpu_us"]
    ratios = [f"{cpu / contenders[peer]['cpu_us']:.2f}" if peer in contenders else "-" for peer in BASELINES]
    return [name, f"{cpu:.1f}", *ratios, f"{figures['cpu_spread']:.0%}", f"{figures['requests_per_second']:.0f}",
            f"{figures['p50_ms']:.2f}", f"{figures['p99_ms']:.2f}", f"{figures['resident_mib']:.1f}"]


def pairs(contenders):
    lines = []
    for name, peer in PAIRS:
        if name in contenders and peer in contenders:
            ratio = contenders[name]["cpu_us"] / contenders[peer]["cpu_us"]
            lines += ["", f"CPU per request of {name}: {ratio:.2f} of {peer}."]
    return lines


def noise(contenders):
    cores = max(figures["others_cores"] for figures in contenders.values())
    if cores < NOISE_CORES:
        return []
    return ["", f"Other programs used up to {cores:.1f} cores meanwhile: these figures are not to be relied on."]


def startup(plugins, cold_ms, warm_ms, warm_starts_ms):
    return (f"wasmgate with {plugins} plugins, from its start to its first answer: {warm_ms:.1f} ms with a warm "
            f"compile cache (median of {len(warm_starts_ms)} starts), {cold_ms:.1f} ms with an empty one (one start).")


def machine(wasmgate):
    """Where, and of which versions, the figures are."""
    models = [line.partition(":")[2].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")]
    commands = {"wasmgate": [wasmgate, "--version"], "nginx": ["nginx", "-v"], "envoy": ["envoy", "--version"],
                "wrk": ["wrk", "-v"]}
    return {
        "machine": f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "versions": {name: version(command) for name, command in commands.items()},
    }


def version(command):
    """What a program says of itself; not being there matters only to whoever has to start it."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError:
        return "not installed"
    first_line = next(iter(done.stdout.strip().splitlines()), "unknown")
    return first_line.rpartition("version: ")[2].partition(" Copyright")[0]
