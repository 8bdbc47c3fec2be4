// The results of a comparison, written into its folder: comparison.json and report.html.

import { buildResult, type ComparisonResult, writeResult } from './result.js';

/** Writes both from what the folder holds so far, and returns what they say. */
export async function writeComparison(out: string): Promise<ComparisonResult> {
  const result = buildResult(out);
  writeResult(out, result);
  return result;
}
