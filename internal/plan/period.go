package plan

import "holdfast/internal/calendar"

// Periods and recurrences are the calendar's: one package does all arithmetic with
// wall clocks and months.
type (
	Period     = calendar.Period
	Recurrence = calendar.Recurrence
)
