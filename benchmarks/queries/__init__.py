"""What the important queries and a look at bookings cost, by what stands between the client and the rows."""
