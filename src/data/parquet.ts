// Parquet files, through hyparquet. It reads asynchronously and by row groups; problems are asked for one by one and at once. So a
// process of its own writes the rows to a temporary file from which any of them can be read. hyparquet is loaded there alone.

import { spawnSync } from 'node:child_process';
import { moduleFile } from '../base/package-folder.js';
import { SpoolFile } from './storage.js';

export interface SpooledRows {
  storage: SpoolFile;
  /** Bytes of each row, one after another. */
  lengths: Uint32Array;
}

/** RangeError where it is no Parquet file that can be read. */
export function spoolParquet(path: string): SpooledRows {
  let lengths = new Uint32Array();
  const storage = new SpoolFile((spool) => {
    const { status, signal, stdout, stderr, error } = spawnSync(
      process.execPath,
      [...process.execArgv, moduleFile('data/parquet-process'), path, spool],
      { maxBuffer: Infinity, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    if (error) throw error;
    if (status !== 0) {
      const reason = /^(?:\w*Error): (.*)$/m.exec(stderr.toString())?.[1] ?? stderr.toString().trim().slice(-500);
      throw new RangeError(`${path}: expected a Parquet file that can be read, got ${signal ?? reason}`);
    }
    // Memory of its own: the buffer may lie anywhere in a pool.
    lengths = new Uint32Array(Uint8Array.from(stdout).buffer);
  });
  return { storage, lengths };
}
