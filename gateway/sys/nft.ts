/** nftables, through its program: scripts are transactions, so nothing is half in force. */
import { spawn } from 'node:child_process'

export class NftError extends Error {}

function run(args: readonly string[], input: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('nft', args, { stdio: ['pipe', 'pipe', 'pipe'] })
    let [out, err] = ['', '']
    child.stdout.on('data', data => {
      out += data
    })
    child.stderr.on('data', data => {
      err += data
    })
    child.stdin.on('error', () => {})
    child.on('error', error =>
      reject(new NftError(`nft cannot be started (${error.message}); on Debian or Ubuntu: apt-get install nftables`)),
    )
    child.on('close', code =>
      code === 0 ? resolve(out) : reject(new NftError(`nft: ${err.trim().split('\n')[0] ?? `exit code ${code}`}`)),
    )
    child.stdin.end(input)
  })
}

export async function runNft(script: string): Promise<void> {
  await run(['-f', '-'], script)
}

/** `nft -j list WHAT`, parsed; undefined when there is no such object. */
export async function listNft(what: string): Promise<unknown> {
  try {
    return JSON.parse(await run(['-j', 'list', ...what.split(' ')], ''))
  } catch {
    return undefined
  }
}
