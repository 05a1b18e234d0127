# PowerShell completion for resnetctl
Register-ArgumentCompleter -Native -CommandName resnetctl -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursorPosition } | ForEach-Object {
            if ($_ -is [System.Management.Automation.Language.StringConstantExpressionAst]) { $_.Value } else { "$_" }
        })
    $program = $commandAst.GetCommandName()
    try {
        $Env:_RESNETCTL_COMPLETE = 'powershell'
        $Env:_RESNETCTL_WORDS = $words -join "`n"
        $Env:_RESNETCTL_WORD = "$wordToComplete"
        & $program 2>$null | ForEach-Object {
            $kind, $value, $help = $_ -split "`t", 3
            if ($kind -eq 'plain') {
                if (-not $help) { $help = $value }
                $text = if ($value -match '[\s''`$&;|(){}]') { "'" + $value.Replace("'", "''") + "'" } else { $value }
                [System.Management.Automation.CompletionResult]::new($text, $value, 'ParameterValue', $help)
            }
        }
    }
    finally {
        foreach ($name in 'COMPLETE', 'WORDS', 'WORD') {
            Remove-Item "Env:_RESNETCTL_$name" -ErrorAction SilentlyContinue
        }
    }
}
