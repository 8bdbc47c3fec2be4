// One process a run folder: a lock file with who holds it. A lock whose process has gone, by a kill −9 for example, is
// taken over.

import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

interface Holder {
  pid: number;
  host: string;
  /** When the process started, in the system's own terms; null where it does not tell. */
  started: string | null;
}

const lockName = 'lock.json';

/** Takes the lock of a folder and returns what lets go of it. Error that names the process that holds it. */
export function lockRun(runDir: string): () => void {
  const path = join(runDir, lockName);
  const own: Holder = { pid: process.pid, host: hostname(), started: startOf(process.pid) };
  const text = JSON.stringify(own);
  while (!create(path, text)) {
    let found = readText(path);
    // A lock is created first and written then: half of one may be about to become whole.
    if (found !== undefined && !holderOf(found)) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, writingTime);
      found = readText(path);
    }
    if (found === undefined) continue;
    const holder = holderOf(found);
    if (holder && isAlive(holder)) {
      throw new Error(
        `${runDir}: process ${holder.pid} on ${holder.host} is training in this folder; if there is no such process, remove ${path}`,
      );
    }
    takeAway(path, found);
  }
  return () => {
    // Whoever has taken it over in the meantime keeps it.
    if (readText(path) === text) fs.rmSync(path, { force: true });
  };
}

/** Milliseconds after which half a lock is one that its process did not live to finish. */
const writingTime = 100;

/** Whether the file is new, and ours. */
function create(path: string, text: string): boolean {
  try {
    fs.writeFileSync(path, text, { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return false;
  }
}

/** Removes a dead lock, but not the one that another process may have put in its place since it was read. */
function takeAway(path: string, dead: string): void {
  const aside = `${path}.${randomUUID()}`;
  try {
    fs.renameSync(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  if (fs.readFileSync(aside, 'utf8') === dead) fs.rmSync(aside);
  else fs.renameSync(aside, path);
}

/** undefined for a file that is gone. */
function readText(path: string): string | undefined {
  try {
    return fs.readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** undefined for a text that was never finished. */
function holderOf(text: string): Holder | undefined {
  try {
    const holder = JSON.parse(text) as Holder;
    return typeof holder?.pid === 'number' ? holder : undefined;
  } catch {
    return undefined;
  }
}

function isAlive({ pid, host, started }: Holder): boolean {
  // Of another machine nothing can be known.
  if (host !== hostname()) return true;
  // Process numbers are used again; the time of the start tells.
  if (started !== null) return startOf(pid) === started;
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Linux: the boot's id and field 22 of the process's stat file. null for no such process and on other systems. */
function startOf(pid: number): string | null {
  try {
    const boot = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie has ended: it holds nothing.
    return state === 'Z' ? null : `${boot} ${rest[18]}`;
  } catch {
    return null;
  }
}
