"""Which Julia and which project; beside them the files that Julia itself reads."""
