// One process a run folder: a lock file with who holds it. A lock whose process has gone, by a kill −9 for example, is
// taken over.

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
  for (let attempt = 0; ; attempt++) {
    try {
      fs.writeFileSync(path, text, { flag: 'wx' });
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = readHolder(path);
    if (holder && (attempt > 0 || isAlive(holder))) {
      throw new Error(
        `${runDir}: process ${holder.pid} on ${holder.host} is training in this folder; if there is no such process, remove ${path}`,
      );
    }
    fs.rmSync(path, { force: true });
  }
  return () => {
    // Whoever has taken it over in the meantime keeps it.
    if (fs.existsSync(path) && fs.readFileSync(path, 'utf8') === text) fs.rmSync(path, { force: true });
  };
}

/** undefined for a file that is gone or was never finished. */
function readHolder(path: string): Holder | undefined {
  try {
    const holder = JSON.parse(fs.readFileSync(path, 'utf8')) as Holder;
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
