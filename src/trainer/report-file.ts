// report.html of a run folder. A report that cannot be written is told and does not fail the run.

import type { Progress } from './progress.js';

/** The module that makes reports; its path is a variable because it comes with another change. */
const reportModule = './report/index.js';

export async function writeReport(runDir: string, progress: Progress): Promise<void> {
  try {
    const { writeReport } = (await import(reportModule)) as { writeReport: (runDir: string) => Promise<unknown> };
    await writeReport(runDir);
  } catch (error) {
    progress.print(`no report: ${(error as Error).message.split('\n')[0]}`);
  }
}
