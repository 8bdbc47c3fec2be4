// The SHA-256 of a file of any size, read in pieces.

import { createHash } from 'node:crypto';
import fs from 'node:fs';

/** Bytes of one read. */
const pieceBytes = 16 * 2 ** 20;

/** In hexadecimal. The system's error if the file cannot be read. */
export function fileSha256(path: string): string {
  const hash = createHash('sha256');
  const file = fs.openSync(path, 'r');
  try {
    const buffer = Buffer.allocUnsafe(pieceBytes);
    for (;;) {
      const length = fs.readSync(file, buffer, 0, pieceBytes, null);
      if (length === 0) return hash.digest('hex');
      hash.update(buffer.subarray(0, length));
    }
  } finally {
    fs.closeSync(file);
  }
}
