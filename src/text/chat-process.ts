// The process in which a chat template is parsed and rendered. It exits after its answer, when its parent is gone, and, whatever
// the template does, at the time limit.

import vm from 'node:vm';
import { noEnd, type RenderAnswer, type RenderRequest } from './chat-template.js';
import { parseTemplate } from './jinja.js';

// A terminal sends these signals to all processes at once; the parent handles them.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});
process.on('disconnect', () => process.exit(1));
process.once('message', (request: string) => {
  process.send!(answer(JSON.parse(request) as RenderRequest), () => process.exit(0));
});
process.send!('ready');

function answer({ source, chats, timeLimit }: RenderRequest): RenderAnswer {
  let chat: number | null = null;
  const texts: string[] = [];
  const render = () => {
    const template = parseTemplate(source);
    for (const [i, variables] of chats.entries()) {
      chat = i;
      texts.push(template(variables));
    }
  };
  try {
    // The parent also kills this process at the limit; this is for the case that the parent is gone.
    vm.runInNewContext('render()', { render }, { timeout: timeLimit });
    return { texts };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return { error: noEnd(timeLimit), chat };
    return { error: message, chat };
  }
}
