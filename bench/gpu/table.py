"""Rows of results: derived values, and the printed table."""

import re


def complete(rows):
    """Adds to each row its rate, its share of the copy's, and the ratio of its time to groupgrad's: of one
    operation and size, the rows with the roles `copy` and `groupgrad`."""
    for own in _sections(rows).values():
        medians = {row["role"]: row["medianMs"] for row in own}
        for row in own:
            if row.get("usefulBytes"):
                row["gigabytesPerSecond"] = row["usefulBytes"] / row["medianMs"] / 1e6
                row["shareOfCopy"] = medians["copy"] / row["medianMs"] if "copy" in medians else None
            row["timesGroupgrad"] = row["medianMs"] / medians["groupgrad"] if "groupgrad" in medians else None


def _number(value, digits=3):
    if value is None:
        return ""
    whole = len(str(int(abs(value))))
    return f"{value:.{max(0, digits - whole)}f}" if abs(value) >= 1 else f"{value:.{digits}g}"


_COLUMNS = [
    ("median ms", lambda r: _number(r["medianMs"])),
    ("p10–p90 ms", lambda r: f"{_number(r['p10Ms'])}–{_number(r['p90Ms'])}"),
    ("useful GB/s", lambda r: _number(r.get("gigabytesPerSecond"))),
    ("of the copy's rate", lambda r: f"{r['shareOfCopy']:.0%}" if r.get("shareOfCopy") else ""),
    ("times groupgrad", lambda r: _number(r.get("timesGroupgrad"))),
    ("extra MiB", lambda r: _number(r.get("peakExtraMiB"))),
    ("error", lambda r: f"{r['error']:.1e}" if r.get("error") is not None else ""),
    ("launches", lambda r: str(r.get("launches") or "")),
]


# The contenders whose times are in the summary next to groupgrad's, and the patterns of their names.
_RIVALS = {
    "PyTorch eager": "PyTorch eager$",
    "PyTorch eager with entropies": "PyTorch eager, entropies",
    "torch.compile": "torch.compile",
    "Liger-Kernel": "Liger-Kernel,",
    "Liger-Kernel on cuTile": "Liger-Kernel on cuTile",
    "Fast-LLM": "Fast-LLM",
    "QuACK (another loss)": "QuACK",
}
_HEADLINE = (
    "groupgrad's times hold the log-probs, the entropies and all metrics. Of the others, PyTorch eager with entropies is "
    "what a training step that logs its entropy does; the rest have none but where the size names an entropy bonus."
)


def _headline(rows):
    """One line per operation and size: groupgrad's time, and the others' times relative to it."""
    titles = ["median ms", "useful GB/s", "of the copy's rate", *(f"{name} / groupgrad" for name in _RIVALS)]
    lines = ["| | " + " | ".join([*titles, "extra MiB", "error"]) + " |", "| --- |" + " ---: |" * (len(titles) + 2)]
    columns = dict(_COLUMNS)
    for key, own in _sections(rows).items():
        ours = next((row for row in own if row["role"] == "groupgrad"), None)
        if ours is None:
            continue
        first = {
            name: next((r for r in own if re.match(pattern, r["contender"])), {}) for name, pattern in _RIVALS.items()
        }
        cells = [columns[title](ours) for title in titles[:3]]
        cells += [_number(row.get("timesGroupgrad")) for row in first.values()]
        cells += [columns["extra MiB"](ours), columns["error"](ours)]
        lines += [f"| {', '.join(key)} | " + " | ".join(cells) + " |"]
    return lines


def _sections(rows):
    """{(operation, size): its rows}, those through the addon last."""
    sections = {}
    for row in sorted(rows, key=lambda row: row["role"] == "addon"):
        sections.setdefault((row["operation"], row["size"]), []).append(row)
    return sections


def markdown(rows, skipped):
    """A table of all sizes, a table for each operation and size, and what was not measured."""
    lines = ["\n## Summary\n", *_headline(rows), f"\n{_HEADLINE}"]
    for key, own in _sections(rows).items():
        lines += [f"\n### {', '.join(key)}\n"]
        lines += ["| | " + " | ".join(title for title, _ in _COLUMNS) + " |"]
        lines += ["| --- |" + " ---: |" * len(_COLUMNS)]
        lines += [f"| {row['contender']} | " + " | ".join(cell(row) for _, cell in _COLUMNS) + " |" for row in own]
    if skipped:
        lines += ["\nNot measured:\n"]
        reasons = {}
        for entry in skipped:
            where = f"{entry['operation']}, {entry['size']}"
            reasons.setdefault((entry["contender"], entry["reason"]), []).append(where)
        for (contender, reason), where in reasons.items():
            lines += [f"- {contender}: {reason} ({where[0] if len(where) == 1 else f'{len(where)} sizes'})"]
    return "\n".join(lines)
