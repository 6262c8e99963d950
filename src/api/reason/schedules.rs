//! Reasons of schedules.

macro_rules! reasons_of_schedules {
    ($next:ident $($rest:ident)*; $($before:tt)*) => {
        $next! {
            $($rest)*; $($before)*

            /// The next slot will run. As the reason of `Missed`: the last slot ran, and none before it was left out.
            ///
            /// Nothing to do.
            Scheduled: FleetBackupSchedule MedusaBackupSchedule,
            /// The expression names a moment that does not come in the next ten years, such as 30 February.
            ///
            /// Correct the expression.
            NeverFires: FleetBackupSchedule MedusaBackupSchedule,
            /// A slot waits for the run that the message names, as `concurrencyPolicy` is `Forbid`.
            ///
            /// See why that run does not end. If it never will, cancel or delete it: the slot then runs at once.
            PreviousRunUnfinished: FleetBackupSchedule MedusaBackupSchedule,
            /// Slots passed without a run; the message says how many, and why where that is known.
            ///
            /// Back up now if a backup is missed: `kubectl medusa backup`. Of several missed slots only the latest
            /// runs.
            SlotsMissed: FleetBackupSchedule MedusaBackupSchedule,
            /// A run that went on was cancelled or deleted for the next one, as `concurrencyPolicy` is `Replace`. What
            /// Medusa had begun goes on.
            ///
            /// Nothing to do.
            RunReplaced: FleetBackupSchedule MedusaBackupSchedule,
            /// The last execution lies in the future: a clock was wrong then, or is wrong now. No slot up to that time
            /// runs.
            ///
            /// If a clock is wrong now, set it. If it was wrong then, the message has the command that removes the last
            /// execution.
            ClockSteppedBack: FleetBackupSchedule MedusaBackupSchedule,
            /// A MedusaBackupSchedule in a data plane says that it will not run; its words are in the message.
            ///
            /// Correct what it names, in the FleetBackupSchedule or in the data plane.
            DelegatedNotReady: FleetBackupSchedule,
        }
    };
}
