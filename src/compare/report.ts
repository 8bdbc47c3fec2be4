// The results of a comparison, written into its folder: comparison.json and report.html.

import { basename, resolve } from 'node:path';
import { writePage } from '../report/page.js';
import { comparisonFiles } from './folder.js';
import { comparisonPage } from './page.js';
import { buildResult, type ComparisonResult, writeResult } from './result.js';

/** Writes both from what the folder holds so far, and returns what they say. Error where there is no comparison. */
export async function writeComparison(out: string): Promise<ComparisonResult> {
  const result = buildResult(out);
  writeResult(out, result);
  await writePage(comparisonFiles(out).report, comparisonPage(basename(resolve(out)), result));
  return result;
}
