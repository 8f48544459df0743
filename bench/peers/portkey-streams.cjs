// Preloaded into the Portkey gateway (node --require). Version 1.15.2 adds its own headers to the response that
// fetch returned, and on Node those are immutable when the response is a stream, so every stream ends in a 500.
// A copy made here has headers that can be written. Plain responses are left as they are.
'use strict';

const original = globalThis.fetch;
const NativeResponse = globalThis.Response;

globalThis.fetch = async function fetchWithWritableHeaders(...request) {
  const answer = await original(...request);
  if (!answer.headers.get('content-type')?.startsWith('text/event-stream')) return answer;
  return new NativeResponse(answer.body, {
    status: answer.status,
    statusText: answer.statusText,
    headers: new Headers(answer.headers),
  });
};
