// Who holds a lock, and whether that process is still there. A process id says something only among the processes of its
// own namespace (a container has one of its own) and of one boot of one machine.

import fs from 'node:fs';
import { hostname } from 'node:os';

/** What a lock file says: plain JSON. */
export interface LockOwner {
  /** Tells this lock from every other; null in one of groupgrad before locks had heartbeats. */
  token: string | null;
  pid: number;
  /** When the process started, in clock ticks since the boot: ids are used again. null where the system does not tell. */
  started: string | null;
  host: string;
  /** The kernel's id of this boot; null where it has none. */
  boot: string | null;
  /** The namespace that `pid` belongs to; null where there are none, or where the lock does not say. */
  pidNamespace: string | null;
  /** When the lock was taken, by the clock of its machine: ISO 8601. null where the lock does not say. */
  since: string | null;
  /** Milliseconds between two heartbeats; null where there are none. */
  heartbeat: number | null;
}

/** This process as the owner of a lock. */
export function thisOwner(token: string, heartbeat: number): LockOwner & { token: string; heartbeat: number } {
  return {
    token,
    pid: process.pid,
    started: startTime('self')?.ticks ?? null,
    host: hostname(),
    boot: bootId(),
    pidNamespace: pidNamespace(),
    since: new Date().toISOString(),
    heartbeat,
  };
}

/** The owner that a lock file names; undefined for a text that was never finished, or that is no lock. */
export function parseOwner(text: string): LockOwner | undefined {
  let value: Partial<LockOwner> | null;
  try {
    value = JSON.parse(text) as Partial<LockOwner> | null;
  } catch {
    return undefined;
  }
  const { token = null, pid, host, started = null, since = null, heartbeat = null } = value ?? {};
  if (!Number.isSafeInteger(pid) || pid! <= 0 || typeof host !== 'string') return undefined;
  if (token !== null) {
    const { boot = null, pidNamespace = null } = value!;
    return { token, pid: pid!, started, host, boot, pidNamespace, since, heartbeat };
  }
  // Earlier versions wrote the boot and the ticks into one text.
  const [boot, ticks] = started?.split(' ') ?? [];
  const unknown = { token, pidNamespace: null, since, heartbeat: null };
  return { ...unknown, pid: pid!, host, boot: boot ?? null, started: ticks ?? null };
}

/** Where an owner is, seen from this process: only of one that is `here` does its process id say anything. */
export function placeOf(owner: LockOwner): 'here' | 'another namespace' | 'another boot' | 'another machine' {
  const [boot, host] = [bootId(), hostname()];
  if (owner.token === null) {
    // The namespace is not known: as that version did, the host's name is taken for it.
    if (owner.host !== host)
      return owner.boot !== null && owner.boot === boot ? 'another namespace' : 'another machine';
    return owner.boot === null || owner.boot === boot ? 'here' : 'another boot';
  }
  if (owner.boot === null && boot === null) return owner.host === host ? 'here' : 'another machine';
  if (owner.boot !== boot) return owner.host === host ? 'another boot' : 'another machine';
  return owner.pidNamespace !== null && owner.pidNamespace === pidNamespace() ? 'here' : 'another namespace';
}

/** Whether a process of this namespace runs that has this id and this start. */
export function processState(pid: number, started: string | null): 'running' | 'gone' | 'unknown' {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // It may be another user's, of which nothing but its existence can be known.
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return 'gone';
  }
  const found = showsOwnNamespace() ? startTime(String(pid)) : undefined;
  if (found === undefined) return 'unknown';
  // A zombie has ended: it holds nothing.
  if (found.state === 'Z' || found.state === 'X') return 'gone';
  if (started === null) return 'unknown';
  return found.ticks === started ? 'running' : 'gone';
}

function bootId(): string | null {
  try {
    return fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return null;
  }
}

function pidNamespace(): string | null {
  return linkTarget('/proc/self/ns/pid');
}

/** A namespace that was made without a /proc of its own sees another's, in which its ids belong to other processes. */
function showsOwnNamespace(): boolean {
  return linkTarget('/proc/self') === String(process.pid);
}

function linkTarget(path: string): string | null {
  try {
    return fs.readlinkSync(path);
  } catch {
    return null;
  }
}

/** Linux: fields 3 and 22 of a process's stat file. undefined for no such process, and on other systems. */
function startTime(pid: string): { state: string; ticks: string } | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    // Behind the name, which may hold anything.
    const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { state, ticks: rest[18] };
  } catch {
    return undefined;
  }
}
