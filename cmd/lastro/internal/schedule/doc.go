// Package schedule is when each job runs next.
//
// A job has a name, a function that tells its next time, and the work. The
// rules:
//
//   - A job never runs beside itself, and jobs of one group run one after the
//     other, the longest overdue first.
//   - A time that passes while the job runs, or while the daemon is down, or
//     while the machine sleeps, is missed. Missed times are made up for by one
//     run, however many they are: at once after a start or a sleep, and not at
//     all after a run that took longer than its own interval: then the next
//     time is the next one on its grid.
//   - A job that never ran is due at once, unless its next time is never.
//   - A job that fails, or panics, is tried again at its next time and not
//     before. Retrying within a run is the work's own business.
//   - What follows from a run (retention after a sync) is the caller's
//     business, through [Scheduler.RunNow].
//   - The start of a run is recorded before its work begins. Whether a run
//     that died with the daemon counts is for [Records] to say.
//
// What a time is on the days when summer time begins and ends is for a job's
// own Next to say. Times are those of the wall clock, looked at once a minute. When it is set
// back so far that a job would wait for longer than two of its times, the job
// waits for its next time by the new clock; a small step back repeats nothing.
package schedule
