// Identifies the process that holds a lock, and finds out whether it is still running. A process id is only meaningful
// within one boot of one machine and one process-id namespace; every container has its own namespace.

import fs from 'node:fs';
import { hostname } from 'node:os';

/** The content of a lock file: plain JSON. */
export interface LockOwner {
  /** Unique to this lock. null in locks of earlier versions, which had no heartbeat. */
  token: string | null;
  pid: number;
  /** Start time of the process, in clock ticks since boot, since ids are reused. null if the system does not provide it. */
  started: string | null;
  host: string;
  /** The kernel's id of this boot. null on systems without one. */
  boot: string | null;
  /** The namespace of `pid`. null on systems without namespaces, and in locks of earlier versions. */
  pidNamespace: string | null;
  /** When the lock was taken, by the clock of its machine: ISO 8601. null in locks of earlier versions. */
  since: string | null;
  /** Milliseconds between two heartbeats. null in locks of earlier versions. */
  heartbeat: number | null;
}

/** Describes this process as the owner of a new lock. */
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

/** Reads the content of a lock file. undefined if it is incomplete or not a lock. */
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
  // Earlier versions wrote boot id and ticks into one string.
  const [boot, ticks] = started?.split(' ') ?? [];
  const unknown = { token, pidNamespace: null, since, heartbeat: null };
  return { ...unknown, pid: pid!, host, boot: boot ?? null, started: ticks ?? null };
}

/** Where an owner runs, relative to this process. Its process id is only meaningful here if that is `here`. */
export function placeOf(owner: LockOwner): 'here' | 'another namespace' | 'another boot' | 'another machine' {
  const [boot, host] = [bootId(), hostname()];
  if (owner.token === null) {
    // The namespace is unknown. As in that version, the host name stands for it.
    if (owner.host !== host)
      return owner.boot !== null && owner.boot === boot ? 'another namespace' : 'another machine';
    return owner.boot === null || owner.boot === boot ? 'here' : 'another boot';
  }
  if (owner.boot === null && boot === null) return owner.host === host ? 'here' : 'another machine';
  if (owner.boot !== boot) return owner.host === host ? 'another boot' : 'another machine';
  return owner.pidNamespace !== null && owner.pidNamespace === pidNamespace() ? 'here' : 'another namespace';
}

/** Whether the process with this id and start time, in this namespace, is running. */
export function processState(pid: number, started: string | null): 'running' | 'gone' | 'unknown' {
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM means that it exists but belongs to another user.
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return 'gone';
  }
  const found = showsOwnNamespace() ? startTime(String(pid)) : undefined;
  if (found === undefined) return 'unknown';
  // A zombie has ended.
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

/** A namespace without its own /proc mount sees that of another namespace, where its ids belong to other processes. */
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

/** Linux: fields 3 and 22 of /proc/<pid>/stat. undefined if there is no such process, and on other systems. */
function startTime(pid: string): { state: string; ticks: string } | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    // After the process name, which may contain any character.
    const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { state, ticks: rest[18] };
  } catch {
    return undefined;
  }
}
