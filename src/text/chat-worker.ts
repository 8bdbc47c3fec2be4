// The worker thread in which a chat template is parsed and rendered: whoever started it can end it.

import { parentPort, workerData } from 'node:worker_threads';
import type { RenderAnswer, RenderRequest } from './chat-template.js';
import { parseTemplate } from './jinja.js';

function render({ source, chats }: RenderRequest): RenderAnswer {
  let chat: number | null = null;
  try {
    const template = parseTemplate(source);
    const texts: string[] = [];
    for (const [i, variables] of chats.entries()) {
      chat = i;
      texts.push(template(variables));
    }
    return { texts };
  } catch (error) {
    return { error: (error as Error).message, chat };
  }
}

parentPort!.postMessage(render(JSON.parse(workerData as string) as RenderRequest));
