/** eventfds: how the main thread wakes a worker that waits in ppoll. */
import { EFD_CLOEXEC, EFD_NONBLOCK } from './layouts.ts'
import { check, eventfd, read, write } from './libc.ts'
import { scratch } from './scratch.ts'

const AT = 64

export function makeEventFd(): number {
  return check('eventfd', eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC))
}

export function signalEventFd(fd: number): void {
  const memory = scratch()
  memory.view.setBigUint64(AT, 1n, true)
  write(fd, memory.address(AT), 8)
}

export function drainEventFd(fd: number): void {
  read(fd, scratch().address(AT), 8)
}
