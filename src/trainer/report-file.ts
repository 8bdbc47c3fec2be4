// report.html of a run folder.

import { join } from 'node:path';

/** The module that makes reports; its path is a variable because it comes with another change. */
const reportModule = './report/index.js';

/** Writes report.html and returns its path. */
export async function makeReport(runDir: string): Promise<string> {
  const { writeReport } = (await import(reportModule)) as { writeReport: (runDir: string) => Promise<unknown> };
  await writeReport(runDir);
  return join(runDir, 'report.html');
}
